"""The same shapes, each written as its framework's own documentation would write them."""
