"""One token through all blocks of a decoder, in one compiled call."""
