//! UDP socket backend of linerate: unprivileged, runs under Onload, VMA and exasock by preload.
