"""What every node and every looker knows: the namespace, folded from its watch. Pure."""

#: the names of the balancers whose moves follow from what everybody knows
FAIR, COST = "fair", "cost"
