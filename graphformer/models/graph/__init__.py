"""Graph models: GAT, GCN, HGT, graph transformers, Graphormer, GPS and Exphormer."""
