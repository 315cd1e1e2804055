"""The parts of `benchmarks.fid_floor`: a model's FID, other tools' FIDs of the same pictures, the table in the documents."""
