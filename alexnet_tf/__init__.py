"""AlexNet experiments: the paper of 2012 as software to vary, measure and trust."""
