"""Operations of the ConvNet's blocks in C++, compiled on the machine that runs them."""
