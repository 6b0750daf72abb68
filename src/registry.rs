//! Who exists: services, their instances, and the checks asked of them.
