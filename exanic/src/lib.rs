//! Safe ExaNIC backend of linerate over libexanic.
