// A library that can really be unloaded, unlike task_plugin, which shares symbols with the whole process. Variants have
// the same code at the same place and differ in PLUGIN_VALUE.
extern "C" int plain_value_plus(int x) {
  return PLUGIN_VALUE + x;
}
