"""Networks: raw output from (x, level, cond). They import no mathematics of diffusion.

To add one, write a module whose constructor takes what it needs of the data (`channels`, `size` and `classes` of pictures; `vocab`,
`length`, `classes`, `source_vocab` and `source_length` of tokens, `levels` and `grid` of a picture's words; of vectors `channels`
in place of `vocab`) and its own options, and give it an entry here: its annotations are its recipe's schema.
"""

NETWORKS: dict[str, str] = {
    "unet": "carrara.networks.unet:UNet",
    "unet2d": "carrara.networks.unet2d:UNet2D",
    "dit": "carrara.networks.dit:DiT",
    "tokens": "carrara.networks.tokens:TokenTransformer",
    "rounds": "carrara.networks.rounds:RoundTransformer",
    "vectors": "carrara.networks.vectors:VectorTransformer",
}
