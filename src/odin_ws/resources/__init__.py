"""CPU, memory and event-loop delay of this process and its container, and overload by them."""
