"""Measuring: how near samples are to real pictures, whether they repeat them, and whether they show what was asked.

measure      the Fréchet distance with its floor and ceiling: frechet, yardstick
 ├ features     pictures as a pretrained network sees them: efficientnet, inception (its network, its weights)
 ├ resizers     how they are brought to its size: clean, tensorflow
 ├ statistics   their mean and covariance in batches; frechet, the distance between two of these
 └ cache        what real pictures give, kept from run to run
streaming    the features of a set of any size: in parts, kept, resumed, shared by processes
 └ folder      a folder of pictures as such a set: picture_folder
beside       the same of KID, precision and recall, and the Inception Score: Sets; told, how figures are shown
kernels      kernel distances between the same features: kid, cmmd
uncertainty  what the distance would be at infinite n, and the interval chance leaves it: estimate
statistics_file  means and covariances in the .npz the field exchanges; reference, one to measure against
inception_score  the Inception Score of logits
diversity    precision, recall and pairwise distances, between the same features
neighbours   the nearest training picture of each sample: memorisation; feature_neighbours, the same by features
captions     whether samples show what was asked: CLIP score, R-precision
 └ clip        what embeds pictures and sentences in one space: Clip; clips reads one, ours or (clip_folder) transformers'
reader       a classifier that reads the class of samples: Reader
studies      all of these of one model, sampled in many ways: Study, STUDIES
compare      all of these of models, folders of pictures and statistics files side by side: compare, write_page
"""
