// A library that code_ref_test.cpp loads and unloads. Built several times with different values of PLUGIN_VALUE, so
// that the builds differ in nothing but their contents. Thread safety: stateless.
extern "C" {

int plugin_variable = PLUGIN_VALUE;

int plugin_function() {
  return PLUGIN_VALUE;
}
}
