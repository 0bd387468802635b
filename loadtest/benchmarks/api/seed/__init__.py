"""The same job as a competent team would first write it, with the libraries that everybody takes."""
