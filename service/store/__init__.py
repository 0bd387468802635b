"""The database and the artifact store: the only importer of sqlalchemy and obstore."""
