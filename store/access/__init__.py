"""Who may do what: the pure core of identity. No database, no I/O, no clock of its own.

`parse` reads documents of the AWS policy language into `policy`, `rules` makes them ready and
`evaluate` decides a request over sets of them, `explain` says why. `actions` and `keys` are the
vocabulary, `canned` the policies that are always there, `public` says what is open to the world.
Both faces and the daemon may import all of it.
"""
