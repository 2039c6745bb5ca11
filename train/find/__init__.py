"""For a text of one's own: which learning rate, how many steps, and the model."""
