"""The operators of the fused backends: registration, operands and second derivatives."""
