"""Student architectures, one file each, and how they start from the teacher."""
