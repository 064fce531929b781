"""Where the lake's files are: a folder or a bucket, behind one protocol.

Here belongs what the two do differently. What the files mean, when one may be replaced and what a delivery is are
decided by the lake and the landing, which do not know which store they are on. Clients are made elsewhere.
"""
