"""Study 1: matrix completion by factorization, and what connectivity of the data decides."""
