"""Files that the installation of this project copies into other packages."""
