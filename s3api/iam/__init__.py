"""AWS IAM and STS on the S3 endpoint: POST / with a form that names an action.

`query` reads the form and says who asks, `calls` what every action is given, `answers` writes the
XML. `holders`, `users`, `roles`, `policies`, `providers` and `simulation` are IAM's actions,
`tokens` and `webidentity` those of STS; `table` lists them all.
"""
