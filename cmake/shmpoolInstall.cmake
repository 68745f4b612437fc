# What `cmake --install` puts where: the library, the public headers, a CMake package and a pkg-config file.
include(CMakePackageConfigHelpers)
get_target_property(shmpool_library_type shmpool TYPE)
set(shmpool_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/shmpool)

install(TARGETS shmpool EXPORT shmpoolTargets)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.hpp" PATTERN "*.ipp")
install(EXPORT shmpoolTargets NAMESPACE shmpool:: DESTINATION ${shmpool_package_dir})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/shmpoolConfig.cmake.in
  ${PROJECT_BINARY_DIR}/shmpoolConfig.cmake INSTALL_DESTINATION ${shmpool_package_dir})
# Before 1.0 a minor version may break the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/shmpoolConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/shmpoolConfig.cmake
  ${PROJECT_BINARY_DIR}/shmpoolConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/FindLiburing.cmake
  ${PROJECT_SOURCE_DIR}/cmake/FindAsio.cmake
  DESTINATION ${shmpool_package_dir})

# pkg-config: a static library brings its private dependencies along without --static, so that one command serves both.
if(shmpool_library_type STREQUAL "SHARED_LIBRARY")
  set(shmpool_pc_requires "")
  set(shmpool_pc_libs "")
else()
  set(shmpool_pc_requires "liburing >= 2.2")
  set(shmpool_pc_libs "-ldl")
endif()
set(shmpool_pc_cflags "")
if(SHMPOOL_USE_BOOST_ASIO)
  set(shmpool_pc_cflags "-DSHMPOOL_USE_BOOST_ASIO")
endif()
foreach(dir INCLUDEDIR LIBDIR)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${dir}}")
    set(shmpool_pc_${dir} "${CMAKE_INSTALL_${dir}}")
  else()
    set(shmpool_pc_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
  endif()
endforeach()
# The prefix is known only when installing: `cmake --install --prefix` may change it.
set(shmpool_pc_in ${PROJECT_SOURCE_DIR}/cmake/shmpool.pc.in)
set(shmpool_pc_half ${PROJECT_BINARY_DIR}/shmpool.pc.in)
set(shmpool_pc_prefix "@CMAKE_INSTALL_PREFIX@")
configure_file(${shmpool_pc_in} ${shmpool_pc_half} @ONLY)
install(CODE "configure_file(\"${shmpool_pc_half}\" \"${PROJECT_BINARY_DIR}/shmpool.pc\" @ONLY)")
install(FILES ${PROJECT_BINARY_DIR}/shmpool.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
