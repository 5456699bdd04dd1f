"""Adam on networks for a quadratic target of 50 variables: one deep spike, or many of them."""
