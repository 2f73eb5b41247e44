"""Where benchmark items come from."""
