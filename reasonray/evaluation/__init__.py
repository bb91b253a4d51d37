"""How good an editor is: the field's metrics of its pictures beside the true ones."""
