"""Foreign annotations to manifests, and the images behind them."""
