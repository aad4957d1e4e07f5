"""What is said of a diagnosis: the page, its pictures and its words."""
