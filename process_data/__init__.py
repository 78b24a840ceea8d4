"""The stages between the images and the ranked, evaluated search: one module, one command."""
