"""The REST API: the services of the product over HTTP, under ``/api/v1``.

It is a face, as the command line is: it asks services and answers. What an answer says is decided below.
"""
