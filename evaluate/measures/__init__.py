"""What loss and ratio cannot show: style, copying, forgetting, variety."""
