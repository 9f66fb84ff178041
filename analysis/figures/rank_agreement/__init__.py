"""Agreement of teacher and student on the prior that makes an object's final box."""
