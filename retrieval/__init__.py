"""The library that the stages share: files, images, model, training, search,
evaluation and reports."""
