"""GenLabel inside timm's training loop."""
