"""Who may do what: the pure core of identity. No database, no I/O, no clock of its own.

`parse` reads documents of the AWS policy language into `policy`; `rules` and `plans` make them
ready; `evaluate` decides a request over them and `explain` says why. `principals` is who asks,
`actions` and `keys` are the vocabulary, `canned` the policies that are always there, `public` says
what is open to the world. `acl`, `grants` and `ownership` are the older grants beside policies.
`tokens` believes or refuses tokens of OpenID providers, `providers` keeps their keys; `sealed`
keeps secrets at rest. Both faces and the daemon may import all of it.
"""
