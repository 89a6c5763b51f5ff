"""The YAML tree that the stages are composed of; packaged as ``tltool.configs``."""
