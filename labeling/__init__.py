"""The data engine: nouns of captions and masks of images become mask–noun pairs."""
