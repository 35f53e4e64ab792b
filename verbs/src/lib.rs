//! Safe raw-packet verbs backend of linerate (Mellanox, NVIDIA) with flow steering.
