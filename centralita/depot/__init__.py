"""The depot: releases of golden images that anyone can verify, their indexes, signatures, and where they are put."""
