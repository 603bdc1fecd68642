"""Many runs as one experiment: their settings, the paper's studies, and who takes which run."""
