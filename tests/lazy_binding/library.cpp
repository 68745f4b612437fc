// Refers to a function that is nowhere, as a library may of which only a part is used. Linked lazily, it does no harm.
int function_that_is_nowhere();

int broken_part() {
  return function_that_is_nowhere();
}

int part_that_works() {
  return 2;
}
