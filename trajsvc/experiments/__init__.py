"""The papers' experiments, each reproducible by one command: train or draw, analyse as any run is analysed, and give a verdict."""
