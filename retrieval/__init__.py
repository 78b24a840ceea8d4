"""The library that the stages share: files, images, model, search and evaluation."""
