"""Workers that are broken on purpose, so that `verify` can be seen to notice. No part of the product."""
