//! Safe ef_vi backend of linerate over Onload's libciul.
