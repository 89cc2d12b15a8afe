"""Users, groups, access keys, policies, roles and providers: kept in rows, used from memory.

`service` is what the namespace shows as `.identity`; `book` holds everything and writes it,
`records` says what is kept of each kind. `holders` changes users, groups and roles, `keys`,
`policies` and `providers` the rest. `callers` compiles what a key or session may do, `sessions`
makes and reads the tokens of temporary keys. The rules themselves are `store.access`.
"""
