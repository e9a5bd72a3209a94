"""A plan as square tiles for FlexAttention: rules on tensors, lists of blocks, their grids."""
