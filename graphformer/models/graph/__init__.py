"""Graph models: GAT, GCN, graph transformers, Graphormer, GPS and Exphormer."""
