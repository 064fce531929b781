"""What leaves the lake: the FOCUS export, the journal and statements, each with the proof that its amounts add up.

How the lake's own tables are made and read does not belong here (tables, services).
"""
