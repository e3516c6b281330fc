"""Small models of our own making: the offline default of Flux Face, and the code that trains them."""
