"""The console: web pages for finance people and administrators, beside the API.

It is a face, as the command line is: a page asks services and shows what they answer, and nothing here can do what the API
cannot. Pages work without JavaScript; htmx makes them quicker.
"""
