"""The composition root of twofold: configuration, command line, and the life of the services.

The only package that knows all the others.
"""

VERSION = "0.1.0"
