"""A project's package: a good mixer, and components that break one promise each, which `breaks` names."""
